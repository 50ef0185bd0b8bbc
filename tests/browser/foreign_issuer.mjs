// An OpenID provider that is not ours, npm's oidc-provider, as strict as it comes: PKCE, access tokens that live for 5 s,
// refresh tokens that rotate and end the grant when one comes twice. Who signs in is staff of `default`; any password
// will do.
//   node foreign_issuer.mjs <folder of node_modules> <port> <home of the pages> <secret>

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, port, home, secret] = process.argv.slice(2);
const { Provider } = await import(pathToFileURL(createRequire(`${folder}/`).resolve("oidc-provider")));

const provider = new Provider(`http://localhost:${port}`, {
  clients: [
    {
      client_id: "brewline-pages",
      client_secret: secret,
      grant_types: ["authorization_code", "refresh_token"],
      redirect_uris: [`${home}/auth/callback`],
      post_logout_redirect_uris: [`${home}/`],
    },
  ],
  cookies: { keys: [secret] },
  extraTokenClaims: () => ({ tenant: "default", tenant_name: "Default", roles: ["staff"] }),
  features: {
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: () => ({
        audience: "brewline",
        scope: "",
        accessTokenFormat: "jwt",
        accessTokenTTL: 5,
        jwt: { sign: { alg: "RS256" } },
      }),
      useGrantedResource: () => true,
    },
    revocation: { enabled: true },
  },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  pkce: { required: () => true },
  rotateRefreshToken: true,
});

provider.listen(Number(port), "127.0.0.1", () => console.log("listening"));
