// A control room in another language: subscribes, decrypts, verifies and prints alerts, and gives the van its receipt.
//   node receive.mjs ROOM-FOLDER PORT COUNT
// ROOM-FOLDER is the control room's part of a site. Uses npm's jose and mqtt and nothing of LFR Edge.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { CompactSign, compactVerify, createLocalJWKSet, generalDecrypt, importJWK } from "jose";
import mqtt from "mqtt";

const [folder, port, count] = process.argv.slice(2);
const read = (name) => readFileSync(join(folder, name));
const decryption = JSON.parse(read("control-decryption.jwks")).keys;
const vans = JSON.parse(read("vans.jwks")).keys;
const signing = JSON.parse(read("control-signing.jwk"));
const held = (alert, payload) => ({
  alert_id: alert.alert_id,
  digest: createHash("sha256").update(payload).digest("base64url"),
});
const receiptFor = async (alert, payload) =>
  new CompactSign(Buffer.from(JSON.stringify({ v: 2, van: alert.van, alerts: [held(alert, payload)], at: new Date() })))
    .setProtectedHeader({ alg: "ES256", typ: "lfr-receipt+json", kid: signing.kid })
    .sign(await importJWK(signing, "ES256"));
const keyFor = async (header) => {
  const jwk = decryption.find((key) => key.kid === header.kid);
  if (!jwk) throw new Error("not for this control room");
  return importJWK(jwk, "ECDH-ES+A256KW");
};

const client = mqtt.connect(`mqtts://localhost:${port}`, {
  protocolVersion: 5,
  clientId: "control-room-node",
  clean: false,
  properties: { sessionExpiryInterval: 600 },
  ca: read("ca.crt"),
  cert: read("control-room.crt"),
  key: read("control-room.key"),
  minVersion: "TLSv1.3",
});

let left = Number(count);
client.on("connect", () => client.subscribe("lfr/1/+/alert", { qos: 1 }, () => console.log('{"event":"listening"}')));
client.on("error", (error) => { console.error(error.message); process.exit(5); });
client.on("message", async (topic, payload) => {
  const event = JSON.parse(payload);
  const opened = await generalDecrypt(event.data, (_, token) => keyFor({ ...token.header }), {
    keyManagementAlgorithms: ["ECDH-ES+A256KW"],
    contentEncryptionAlgorithms: ["A256GCM"],
  });
  const { payload: body, protectedHeader } = await compactVerify(opened.plaintext, createLocalJWKSet({ keys: vans }), {
    algorithms: ["ES256"],
  });
  if (protectedHeader.typ !== "lfr-alert+json") throw new Error("another type");
  const alert = JSON.parse(new TextDecoder().decode(body));
  const signer = vans.find((key) => key.kid === protectedHeader.kid).owner;
  if (alert.van !== signer || topic !== `lfr/1/${signer}/alert` || event.id !== alert.alert_id) throw new Error("not its own");
  for (const picture of ["probe_jpeg", "reference_jpeg"]) alert[picture] = Buffer.from(alert[picture], "base64url").length;
  console.log(JSON.stringify({ event: "alert", ...alert }));
  client.publish(`lfr/1/${signer}/receipt`, await receiptFor(alert, payload));
  left -= 1;
  if (left === 0) client.end(false, () => process.exit(0));
});
