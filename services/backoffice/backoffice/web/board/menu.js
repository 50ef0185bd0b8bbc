import { html, useEffect, useState } from "/web/vendor/preact.js";
import { Empty, Failed, Loading } from "/web/shared/states.js";
import { money, t } from "/web/shared/words.js";
import { totalOf, useBasket } from "/web/board/basket.js";
import { Checkout } from "/web/board/checkout.js";
import { orders } from "/web/board/orders.js";

export function Menu({ who, say }) {
  const [{ products, error }, setFound] = useState({});
  const basket = useBasket();
  const read = () => {
    setFound({});
    orders.get("/catalog").then(({ items }) => setFound({ products: items }), (error) => setFound({ error }));
  };
  useEffect(read, []);
  const add = (product, variation) => {
    basket.add(product, variation);
    say(t("menu.added", { name: product.name }));
  };
  return html`<div class="shop">
    <section aria-labelledby="menu">
      <h1 id="menu">${t("menu.title")}</h1>
      <${Products} products=${products} error=${error} retry=${read} add=${add} />
      ${basket.lines.length > 0 && html`<${ToBasket} lines=${basket.lines} />`}
    </section>
    <${Basket} basket=${basket} who=${who} />
  </div>`;
}

function Products({ products, error, retry, add }) {
  if (error) return html`<${Failed} error=${error} retry=${retry} />`;
  if (!products) return html`<${Loading} lines=${6} />`;
  if (!products.length) return html`<${Empty} title=${t("menu.empty.title")} text=${t("menu.empty.text")} />`;
  return html`<ul class="menu">${products.map((product) => html`<${Product} key=${product.sku} product=${product} add=${add} />`)}</ul>`;
}

function Product({ product, add }) {
  const [chosen, setChosen] = useState(product.variations[0].name);
  const variation = product.variations.find(({ name }) => name === chosen) ?? product.variations[0];
  const several = product.variations.length > 1;
  return html`<li class="card product">
    <div class="row spread">
      <h2>${product.name}</h2>
      ${product.featured && html`<span class="mark info">${t("menu.featured")}</span>`}
    </div>
    ${several
      ? html`<div class="choice" role="radiogroup" aria-label=${t("menu.variation", { name: product.name })}>
          ${product.variations.map(
            ({ name }) => html`<label key=${name}>
              <input type="radio" name=${`variation-${product.sku}`} checked=${name === chosen} onChange=${() => setChosen(name)} />
              <span>${named(name)}</span>
            </label>`,
          )}
        </div>`
      : html`<p class="quiet small">${named(variation.name)}</p>`}
    <div class="row spread foot">
      <strong class="number price">${money(variation.price)}</strong>
      <button type="button" class="primary" aria-label=${t("menu.add.named", { name: product.name })} onClick=${() => add(product, variation)}>
        ${t("menu.add")}
      </button>
    </div>
  </li>`;
}

const named = (variation) => variation.replaceAll("-", " ");

/** On a phone, where the basket lies below the menu. */
function ToBasket({ lines }) {
  const count = lines.reduce((sum, { quantity }) => sum + quantity, 0);
  const show = () => {
    const basket = document.getElementById("basket");
    basket.scrollIntoView();
    basket.focus({ preventScroll: true });
  };
  return html`<button type="button" class="primary to-basket" onClick=${show}>
    ${t("basket.show", { count, total: money(totalOf(lines)) })}
  </button>`;
}

function Basket({ basket, who }) {
  const { lines, change, clear } = basket;
  const total = totalOf(lines);
  return html`<section class="card basket" id="basket" aria-labelledby="basket-title" tabindex="-1">
    <h2 id="basket-title">${t("basket.title")}</h2>
    ${lines.length
      ? html`<ul class="lines">${lines.map((line) => html`<${Line} key=${line.sku + line.variation} line=${line} change=${change} />`)}</ul>
          <p class="row spread total"><span>${t("basket.total")}</span><strong class="number">${money(total)}</strong></p>
          <${Checkout} lines=${lines} total=${total} who=${who} done=${clear} />`
      : html`<${Empty} title=${t("basket.empty.title")} text=${t("basket.empty.text")} />`}
  </section>`;
}

function Line({ line, change }) {
  const name = `${line.name}, ${named(line.variation)}`;
  return html`<li class="row">
    <span class="grow">${line.name}<small class="quiet">${named(line.variation)}</small></span>
    <span class="row counter">
      <button type="button" aria-label=${t("basket.less", { name })} onClick=${() => change(line, -1)}>−</button>
      <output class="number">${line.quantity}</output>
      <button type="button" aria-label=${t("basket.more", { name })} onClick=${() => change(line, 1)}>+</button>
    </span>
    <span class="number sum">${money(totalOf([line]))}</span>
  </li>`;
}
