import { html, useEffect, useRef, useState } from "/web/vendor/preact.js";
import { config } from "/web/shared/config.js";
import { signIn } from "/web/shared/session.js";
import { language, money, t } from "/web/shared/words.js";
import { fieldsOf, place } from "/web/board/placing.js";

const LOCATIONS = ["in-store", "take-away", "delivery"];
const TEST_CARDS = ["tok_ok", "tok_declined", "tok_insufficient_funds", "tok_lost_reply"];

export function Checkout({ lines, total, who, done }) {
  const [sandbox, setSandbox] = useState(null);
  const [{ busy, trying, error }, setState] = useState({});
  const form = useRef();
  // To the first field that is to be looked at again.
  useEffect(() => form.current?.querySelector('[aria-invalid="true"]')?.focus(), [error]);
  useEffect(() => { config().then(({ sandbox }) => setSandbox(sandbox)); }, []);

  if (!who) {
    return html`<button type="button" class="primary wide" onClick=${() => signIn()}>${t("form.place.signed-out")}</button>`;
  }
  const send = async (event) => {
    event.preventDefault();
    setState({ busy: true });
    try {
      const order = await place(bodyOf(new FormData(event.target), lines, total, who), () => setState({ busy: true, trying: true }));
      done();
      location.hash = `#/orders/${order.id}`;
    } catch (error) {
      setState({ error });
    }
  };
  const wrong = error ? fieldsOf(error) : {};
  if (error?.errorType === "payment-declined") wrong.card = declined(error.declineCode);

  return html`<form ref=${form} onSubmit=${send} class="checkout">
    <fieldset class="locations">
      <legend class="label">${t("form.location")}</legend>
      <div class="choice">
        ${LOCATIONS.map(
          (name) => html`<label key=${name}>
            <input type="radio" name="location" value=${name} defaultChecked=${name === "take-away"} /><span>${t(`location.${name}`)}</span>
          </label>`,
        )}
      </div>
    </fieldset>
    <${Field} name="name" wrong=${wrong.name} required autocomplete="name" maxlength="200" />
    <${Field} name="email" wrong=${wrong.email} hint required type="email" autocomplete="email" maxlength="254" />
    <${Field} name="phone" wrong=${wrong.phone} hint type="tel" autocomplete="tel" pattern="\\+[1-9][0-9]{6,14}" />
    <${Card} sandbox=${sandbox} wrong=${wrong.card} />
    ${error && html`<${Refusal} error=${error} marked=${Object.keys(wrong).length > 0} />`}
    <button type="submit" class="primary wide" disabled=${busy}>${busy ? t("form.placing") : t("form.place", { total: money(total) })}</button>
    <p class="small quiet" role="status">${trying && t("form.trying")}</p>
  </form>`;
}

function bodyOf(form, lines, total, who) {
  const customer = {
    id: who.subject.replace(/[^A-Za-z0-9_.@:-]/g, "-").slice(0, 64),
    name: form.get("name").trim(),
    email: form.get("email").trim(),
    locale: language,
    ...(form.get("phone") && { phone: form.get("phone") }),
  };
  const items = lines.map(({ sku, variation, quantity }) => ({ sku, variation, quantity }));
  return { customer, items, location: form.get("location"), currency: total.currency, payment: { token: form.get("card").trim() } };
}

function declined(code) {
  const key = `decline.${code}`;
  return t(key) === key ? t("decline.other") : t(key);
}

function Refusal({ error, marked }) {
  const text = error instanceof TypeError || error.status >= 500 ? t("form.unsure") : marked ? t("form.check") : error.message;
  return html`<p class="notice bad" role="alert">${text}</p>`;
}

function Field({ name, wrong, hint, ...input }) {
  return html`<div class="field">
    <label for=${name}>${t(`form.${name}`)}</label>
    <input id=${name} name=${name} aria-invalid=${wrong ? "true" : undefined} aria-describedby=${`${name}-said`} ...${input} />
    <p id=${`${name}-said`} class=${wrong ? "field-error" : "field-hint"}>${wrong ?? (hint && t(`form.${name}.hint`))}</p>
  </div>`;
}

/** In production the provider's own fields stand here, and give the token. */
function Card({ sandbox, wrong }) {
  const told = { id: "card", name: "card", "aria-invalid": wrong ? "true" : undefined, "aria-describedby": "card-said" };
  return html`<div class="field">
    <label for="card">${sandbox ? t("form.card") : t("form.card.token")}</label>
    ${sandbox
      ? html`<select ...${told}>${TEST_CARDS.map((token) => html`<option key=${token} value=${token}>${t(`card.${token}`)}</option>`)}</select>`
      : html`<input ...${told} required autocomplete="off" />`}
    <p id="card-said" class=${wrong ? "field-error" : "field-hint"}>${wrong ?? (sandbox && t("form.card.hint"))}</p>
  </div>`;
}
