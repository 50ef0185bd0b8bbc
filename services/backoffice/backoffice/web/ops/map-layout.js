// Where everything on the map stands: in columns, who is called right of its caller; a way that leads past a column has a
// place of its own in it, as a service has, and so runs behind none.

import { services } from "/web/ops/sources.js";

const WIDE = 160; // of a service, in the picture's own units
const HIGH = 52;
const BETWEEN = 150; // two columns: room for what is said on a way
const BELOW = 96; // from one place to the next in its column
const EDGE = 12;
const LANE = 9; // of a way, from the middle: others lead back, or are of another kind
const LOOP = 34; // above a service that hears itself, with what is said there
const SWEEPS = 4; // through the columns, there and back, until what belongs together stands side by side

/** `{width, height, nodes: [{name, ours, x, y, wide, high, heard, asked}], lines: [{edge, path, tip, said: {x, y}, stroke}]}`; x and
 *  y are of the middle. */
export function drawn(edges) {
  const placed = columnsOf(edges);
  const columns = [];
  for (const [name, column] of placed) (columns[column] ??= []).push(name);
  const stops = new Map(edges.map((edge) => [edge, stopsOf(edge, placed)]));
  for (const [edge, names] of stops) names.slice(1, -1).forEach((name, at) => columns[leftmost(edge, placed) + at + 1].push(name));
  const places = stand(columns.map((names) => [...new Set(names)]), [...stops.values()]);
  const nodes = [...placed.keys()].map((name) => ({ ...traffic(edges, name), ...places.get(name), name, ours: services.includes(name), wide: WIDE, high: HIGH }));
  const most = Math.max(...columns.map((names) => new Set(names).size));
  return {
    width: 2 * EDGE + columns.length * WIDE + (columns.length - 1) * BETWEEN,
    height: 2 * EDGE + LOOP + (most - 1) * BELOW + HIGH,
    nodes,
    lines: linesOf(stops, places, placed),
  };
}

function traffic(edges, name) {
  const sum = (side) => edges.filter((edge) => edge[side] === name).reduce((total, { count }) => total + count, 0);
  return { heard: sum("callee"), asked: sum("caller") };
}

/** The number of each service's column, never that of another it has to do with: who is called stands right of its caller.
 *  Where ways lead in a circle somebody has to begin: who asks more of the others than they ask of it. */
function columnsOf(edges) {
  const left = new Set(edges.flatMap(({ caller, callee }) => [caller, callee]).sort());
  const placed = new Map();
  while (left.size) {
    const open = edges.filter(({ caller, callee }) => left.has(caller) && left.has(callee) && caller !== callee);
    const surplus = (name) => {
      const { heard, asked } = traffic(open, name);
      return heard ? asked - heard : Infinity;
    };
    const next = [...left].reduce((first, name) => (surplus(name) > surplus(first) ? name : first));
    const near = edges.flatMap(({ caller, callee }) => (caller === next ? [callee] : callee === next ? [caller] : []));
    placed.set(next, 1 + Math.max(-1, ...near.map((name) => placed.get(name) ?? -1)));
    left.delete(next);
  }
  return placed;
}

const leftmost = ({ caller, callee }, placed) => Math.min(placed.get(caller), placed.get(callee));

/** From left to right: a service, the places in the columns between, a service. */
function stopsOf({ caller, callee }, placed) {
  if (caller === callee) return [caller];
  const [left, right] = placed.get(caller) < placed.get(callee) ? [caller, callee] : [callee, caller];
  const between = placed.get(right) - placed.get(left) - 1;
  return [left, ...Array.from({ length: between }, (_, at) => `${left} ${right} ${at}`), right];
}

/** `{name: {x, y}}`: each as near as can be to the middle of what it leads to in the next column. */
function stand(columns, ways) {
  const near = new Map();
  for (const stops of ways) {
    for (let at = 1; at < stops.length; at += 1) {
      for (const [one, other] of [[stops[at - 1], stops[at]], [stops[at], stops[at - 1]]]) near.set(one, (near.get(one) ?? new Set()).add(other));
    }
  }
  const rows = new Map();
  const number = (names) => names.forEach((name, row) => rows.set(name, row - (names.length - 1) / 2));
  columns.forEach(number);
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const order = columns.map((_, at) => at);
    if (sweep % 2) order.reverse();
    order.slice(1).forEach((at, step) => {
      const before = new Set(columns[order[step]]);
      const middle = (name) => {
        const found = [...(near.get(name) ?? [])].filter((other) => before.has(other)).map((other) => rows.get(other));
        return found.length ? found.reduce((sum, row) => sum + row, 0) / found.length : rows.get(name);
      };
      const middles = new Map(columns[at].map((name) => [name, middle(name)]));
      number(columns[at].sort((one, other) => middles.get(one) - middles.get(other)));
    });
  }
  const most = Math.max(...columns.map(({ length }) => length));
  const y = EDGE + LOOP + HIGH / 2 + ((most - 1) / 2) * BELOW;
  return new Map(columns.flatMap((names, at) => names.map((name) => [name, { x: EDGE + WIDE / 2 + at * (WIDE + BETWEEN), y: y + rows.get(name) * BELOW }])));
}

function linesOf(stops, places, placed) {
  const lanes = new Map();
  const most = Math.max(...[...stops.keys()].map(({ count }) => count));
  return [...stops].map(([edge, names]) => {
    const pair = `${edge.caller} ${edge.callee}`;
    const lane = (lanes.get(pair) ?? 0) + 1;
    lanes.set(pair, lane);
    const forth = placed.get(edge.callee) > placed.get(edge.caller);
    const shift = (forth ? -LANE : LANE) * (2 * lane - 1);
    const points = names.map((name) => places.get(name));
    const way = points.length === 1 ? loop(points[0]) : wayOf(points, shift, forth);
    return { edge, ...way, stroke: 1.25 + 2 * (Math.log1p(edge.count) / Math.log1p(most)) };
  });
}

const HALF = WIDE / 2;
const BEND = BETWEEN / 2;

/** From service to service, straight on where it leads past a column. What is said stands above a way to the right, and
 *  below one to the left. */
function wayOf(points, shift, forth) {
  const to = forth ? 1 : -1;
  const [first, ...others] = (forth ? points : points.toReversed()).map(({ x, y }) => ({ x, y: y + shift }));
  const last = others.at(-1);
  const path = others.map((next, at) => {
    const from = others[at - 1] ?? first;
    const [begin, end] = [from.x + to * HALF, next.x - to * HALF];
    return `L${begin} ${from.y}C${begin + to * BEND} ${from.y} ${end - to * BEND} ${next.y} ${end - (next === last ? to * 7 : 0)} ${next.y}`;
  });
  const [x, y] = [last.x - to * HALF, last.y];
  return { path: `M${first.x + to * HALF} ${first.y}${path.join("")}`, tip: `M${x} ${y}l${-9 * to} -4.5v9z`, said: saidOf(points, shift + (forth ? -7 : 16)) };
}

/** Nearer to the right one of two: there two ways from one service are apart. Where a way leads past a column: there. */
function saidOf(points, shift) {
  const [left, right] = points;
  if (points.length > 2) return { x: right.x, y: right.y + shift };
  return { x: left.x + HALF + 0.6 * BETWEEN, y: left.y + 0.648 * (right.y - left.y) + shift };
}

function loop({ x, y }) {
  const top = y - HIGH / 2;
  return {
    path: `M${x - 24} ${top}C${x - 24} ${top - 28} ${x + 24} ${top - 28} ${x + 24} ${top - 7}`,
    tip: `M${x + 24} ${top}l-4.5 -9h9z`,
    said: { x, y: top - 26 },
  };
}
