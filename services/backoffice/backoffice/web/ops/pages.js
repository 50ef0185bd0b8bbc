// The console's pages, one line each: its address (`#/<name>`), its module, and the least role that sees it (staff where
// none is named). The module's default export is a component that is given `{path, query, session}`: what follows the
// name in the address, and who asks. The text `ops.<name>` is its title in the navigation.

import { config } from "/web/shared/config.js";

const { sandbox } = await config().catch(() => ({})); // on one machine alone

export const pages = [
  { name: "now", load: () => import("/web/ops/now.js") },
  { name: "orders", load: () => import("/web/ops/orders.js") },
  { name: "map", load: () => import("/web/ops/map.js") },
  { name: "sagas", load: () => import("/web/ops/sagas.js") },
  { name: "dead-letters", role: "admin", load: () => import("/web/ops/dead-letters.js") },
  { name: "money", load: () => import("/web/ops/money.js") },
  { name: "templates", load: () => import("/web/ops/templates.js") },
  { name: "bulk", role: "admin", load: () => import("/web/ops/bulk.js") },
  ...(sandbox ? [{ name: "sandbox", role: "admin", load: () => import("/web/ops/sandbox.js") }] : []),
];
