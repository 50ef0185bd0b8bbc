// "Orders": the newest, by status; or one of them (order.js), where the address names it.

import { html } from "/web/vendor/preact.js";
import { api } from "/web/shared/api.js";
import { Empty } from "/web/shared/states.js";
import { money, t, time } from "/web/shared/words.js";
import { address, asked, Filters, Pager, Table } from "/web/ops/desk.js";
import { Heading, Live, useLive } from "/web/ops/live.js";
import { OrderMark } from "/web/ops/parts.js";
import { Order } from "/web/ops/order.js";
import "/web/ops/order-words.js";

const PAGE = "orders";
const STATUSES = ["pending_payment", "confirmed", "preparation", "ready", "shipped", "delivered", "payment_failed", "cancelled"];

export default function Orders({ path: [id], query }) {
  return id ? html`<${Order} key=${id} id=${id} />` : html`<${List} query=${query} />`;
}

function List({ query }) {
  const wanted = Object.fromEntries(query);
  const live = useLive((signal) => api("order-service").get(`/orders${asked(wanted)}`, { signal }), [String(query)]);
  const options = [["", t("ops.status.all")], ...STATUSES.map((status) => [status, t(`ops.status.${status}`)])];
  const columns = [
    { label: t("ops.column.placed"), show: ({ createdAt }) => time(createdAt) },
    { label: t("ops.column.order"), show: ({ id }) => html`<a class="code" href=${address(PAGE, [id])}>…${id.slice(-8)}</a>` },
    { label: t("ops.column.customer"), show: ({ customer }) => customer.name },
    { label: t("ops.column.total"), show: ({ total }) => money(total) },
    { label: t("ops.column.status"), show: ({ status }) => html`<${OrderMark} status=${status} />` },
    { label: t("ops.column.paid"), show: ({ payment }) => t(`ops.paid.${payment.status}`) },
    { label: t("ops.column.told"), show: ({ notified }) => (notified ? t(`ops.told.${notified.status}`) : "–") },
  ];
  return html`
    <${Heading} title=${t("ops.orders")} live=${live} />
    <${Filters} page=${PAGE} query=${query} fields=${[{ name: "status", label: t("ops.status"), options }]} />
    <${Live} live=${live}>
      ${({ items, next }) => html`
        ${items.length
          ? html`<${Table} caption=${t("ops.orders")} columns=${columns} rows=${items} rowKey=${({ id }) => id} />`
          : html`<${Empty} title=${t("ops.orders.none")} />`}
        <${Pager} page=${PAGE} query=${query} next=${next} />
      `}
    <//>
  `;
}
