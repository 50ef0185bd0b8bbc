/** Places an order by Brewline's HTTP API and reads it back. Its types are generated from contracts/http/order.json. */
import { randomUUID } from "node:crypto";
import createClient from "openapi-fetch";
import type { components, paths } from "./generated/order.js";

type Order = components["schemas"]["Order"];
type OrderRequest = components["schemas"]["OrderRequest"];
type ProblemDocument = components["schemas"]["ProblemDocument"];

const api = createClient<paths>({
  baseUrl: process.env.ORDERS ?? "http://localhost:8001",
  headers: { Authorization: `Bearer ${process.env.TOKEN}` },
});

/** With the same key it may be sent again after a lost answer: it stays one order, charged once. */
async function place(order: OrderRequest, key: string): Promise<Order> {
  const { data, error } = await api.POST("/api/v1/orders", { body: order, params: { header: { "idempotency-key": key } } });
  if (error) throw refused(error);
  return data;
}

async function read(id: string): Promise<Order> {
  const { data, error } = await api.GET("/api/v1/orders/{order_id}", { params: { path: { order_id: id } } });
  if (error) throw refused(error);
  return data;
}

/** `errorType` is stable, for programs; the rest is for people. */
function refused({ status, errorType, detail }: ProblemDocument): Error {
  return new Error(`${status} ${errorType}: ${detail}`);
}

const wanted: OrderRequest = {
  customer: { id: "c-1", name: "Ada", email: "ada@example.com" },
  items: [{ sku: "latte", variation: "vanilla", quantity: 2 }],
  location: "take-away",
  currency: "USD",
  payment: { method: "credit_card", token: "tok_ok" },
};
const { id } = await place(wanted, randomUUID());
const { status, total } = await read(id); // after a 202 it is still pending_payment
console.log(`${status} ${id}: ${total.amount} ${total.currency}`);
