// An order by its id, wherever that was copied from.

import { html, useState } from "/web/vendor/preact.js";
import { t } from "/web/shared/words.js";

const ID = /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/i;

export function Find() {
  const [unknown, setUnknown] = useState(false);
  const find = (field, whole) => {
    const [id] = ID.exec(field.value) ?? [];
    setUnknown(whole && !id);
    if (!id) return;
    location.hash = `#/orders/${id.toLowerCase()}`;
    field.value = "";
  };
  const submit = (event) => {
    event.preventDefault();
    find(event.currentTarget.elements.id, true);
  };
  return html`<form class="find" role="search" onSubmit=${submit}>
    <input
      name="id"
      type="search"
      autocomplete="off"
      spellcheck=${false}
      placeholder=${t("ops.find")}
      aria-label=${t("ops.find")}
      aria-invalid=${unknown}
      aria-describedby="find-hint"
      onInput=${(event) => find(event.currentTarget, false)}
    />
    <span id="find-hint" class="field-error" role="status">${unknown && t("ops.find-unknown")}</span>
  </form>`;
}
