// node validate.mjs asyncapi FILE            is it a valid AsyncAPI 3.0 document?
// node validate.mjs schema FILE < MESSAGE    does the message obey the JSON Schema (2020-12)?
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import Ajv from "ajv";
import Ajv2020 from "ajv/dist/2020.js";
import addFormats from "ajv-formats";

const [what, file] = process.argv.slice(2);
const read = (path) => JSON.parse(readFileSync(path, "utf8"));
let ajv, schema, instance;
if (what === "asyncapi") {
  ajv = new Ajv({ strict: false, validateFormats: false, meta: false, validateSchema: false });
  schema = createRequire(import.meta.url)("@asyncapi/specs/schemas/3.0.0.json");
  instance = read(file);
} else {
  ajv = new Ajv2020({ strict: true, allErrors: true });
  addFormats(ajv);
  schema = read(file);
  instance = read(0);
}
const check = ajv.compile(schema);
if (check(instance)) {
  console.log("valid");
} else {
  for (const error of check.errors.slice(0, 10)) console.error(`${error.instancePath || "/"} ${error.message}`);
  process.exit(1);
}
