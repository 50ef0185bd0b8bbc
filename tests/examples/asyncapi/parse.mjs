// What AsyncAPI's own parser finds wrong with a document, and how many messages it read:
//   node parse.mjs <folder of node_modules> <document>

import { createRequire } from "node:module";

const [folder, document] = process.argv.slice(2);
const { Parser, fromFile } = createRequire(`${folder}/`)("@asyncapi/parser");

const read = await fromFile(new Parser(), document).parse();
const wrong = read.diagnostics.filter(({ severity }) => severity <= 1); // errors and warnings
console.log(JSON.stringify({ wrong: wrong.map(({ message }) => message), messages: read.document?.allMessages().length }));
