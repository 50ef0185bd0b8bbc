// What follows the # of the address, by which a page's views are found.

import { useEffect, useState } from "/web/vendor/preact.js";

export function useHash() {
  const [hash, setHash] = useState(location.hash);
  useEffect(() => {
    const moved = () => setHash(location.hash);
    addEventListener("hashchange", moved);
    moved(); // it may have changed since the page was drawn, when nobody listened yet
    return () => removeEventListener("hashchange", moved);
  }, []);
  return hash;
}
