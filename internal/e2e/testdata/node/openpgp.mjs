// Makes keys with OpenPGP.js, and opens messages with them.
import * as openpgp from "openpgp";
import { answer } from "./answer.mjs";

await answer(async ({ make, key, message }) => {
  if (make) {
    const config = { v6Keys: make.version === 6 };
    const made = await openpgp.generateKey({ userIDs: [{ email: make.address }], type: "curve25519", config });
    return { secret: made.privateKey, certificate: made.publicKey };
  }
  const opened = await openpgp.decrypt({
    message: await openpgp.readMessage({ armoredMessage: message }),
    decryptionKeys: await openpgp.readPrivateKey({ armoredKey: key }),
    format: "binary",
  });
  return { text: Buffer.from(opened.data).toString("base64") };
});
