// Makes keys with OpenPGP.js, encrypts to their certificates, and opens messages.
import * as openpgp from "openpgp";
import { answer } from "./answer.mjs";

await answer(async ({ make, encrypt, key, message }) => {
  if (make) {
    const config = { v6Keys: make.version === 6 };
    const made = await openpgp.generateKey({ userIDs: [{ email: make.address }], type: "curve25519", config });
    return { secret: made.privateKey, certificate: made.publicKey };
  }
  if (encrypt) {
    const encryptionKeys = await openpgp.readKey({ armoredKey: encrypt.certificate });
    return { message: await openpgp.encrypt({ message: await openpgp.createMessage({ text: encrypt.text }), encryptionKeys }) };
  }
  const opened = await openpgp.decrypt({
    message: await openpgp.readMessage({ armoredMessage: message }),
    decryptionKeys: await openpgp.readPrivateKey({ armoredKey: key }),
    format: "binary",
  });
  return { text: Buffer.from(opened.data).toString("base64") };
});
