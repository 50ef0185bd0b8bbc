/** What the bar has to make, from Brewline's events: on the console, and as JSON at GET /to-make.
 *
 * It remembers in memory alone, so it begins empty: a display that has to survive its own restart keeps these in a store.
 */
import { CommunicationProtocolEnum, DaprPubSubStatusEnum, DaprServer } from "@dapr/dapr";
import type { OrderCancelledV1 } from "./generated/order.cancelled.v1.js";
import type { OrderConfirmedV1 } from "./generated/order.confirmed.v1.js";
import type { OrderStatusChangedV1 } from "./generated/order.status-changed.v1.js";

type OrderEvent = OrderConfirmedV1 | OrderStatusChangedV1 | OrderCancelledV1;

const TYPES = ["order.confirmed.v1", "order.status-changed.v1", "order.cancelled.v1"];
const TO_MAKE = ["confirmed", "preparation"];
const orders = new Map<string, OrderEvent>();

/** Events come twice and out of order: an older version never overtakes a newer. */
function take(event: OrderEvent): void {
  const known = orders.get(event.orderId);
  if (known && known.version >= event.version) return;
  orders.set(event.orderId, event);
  if (TO_MAKE.includes(event.status)) console.log(line(event));
}

function line({ orderId, status, items }: OrderEvent): string {
  const made = items.map(({ quantity, name, variation }) => `${quantity} x ${name}${variation ? ` (${variation})` : ""}`);
  return `${status} ${orderId}: ${made.join(", ")}`;
}

/** No name, address or phone number: the bar needs none. */
function toMake(): Pick<OrderEvent, "orderId" | "status" | "items">[] {
  return [...orders.values()]
    .filter(({ status }) => TO_MAKE.includes(status))
    .map(({ orderId, status, items }) => ({ orderId, status, items }));
}

/** RETRY brings an event again, DROP gives it up; what is thrown here would count as done. */
async function heard(event: OrderEvent, headers: object): Promise<DaprPubSubStatusEnum> {
  const token = (headers as Record<string, string>)["dapr-api-token"]; // only our sidecar knows it
  if (process.env.APP_API_TOKEN && token !== process.env.APP_API_TOKEN) return DaprPubSubStatusEnum.DROP;
  take(event);
  return DaprPubSubStatusEnum.SUCCESS;
}

const server = new DaprServer({
  serverHost: "127.0.0.1",
  serverPort: process.env.APP_PORT ?? "8010",
  communicationProtocol: CommunicationProtocolEnum.HTTP,
  clientOptions: { daprPort: process.env.DAPR_HTTP_PORT },
});
// The sidecar sorts by the CloudEvent's type: what else is told on this topic, today or later, is no concern of ours.
const match = TYPES.map((type) => `event.type == "${type}"`).join(" || ");
await server.pubsub.subscribeWithOptions("pubsub", "orders", { route: { rules: [{ match, path: "shown" }], default: "others" } });
server.pubsub.subscribeToRoute("pubsub", "orders", "shown", heard);
await server.invoker.listen("health/live", async () => ({ status: "alive" }));
await server.invoker.listen("to-make", async () => toMake());
await server.start();
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, () => void server.stop().finally(() => process.exit())); // what is being answered is answered first
}
