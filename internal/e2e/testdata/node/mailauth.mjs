// Verifies a message with mailauth, as the receiver would that got it from a server. The
// DNS is what the test says it is.
import { authenticate } from "mailauth";
import { answer } from "./answer.mjs";

await answer(async ({ message, records, ip, helo, sender }) => {
  const resolver = async (name, type) => {
    if (type === "TXT" && records[name]) return [[records[name]]];
    throw Object.assign(new Error(`no ${type} of ${name}`), { code: "ENOTFOUND" });
  };
  const { dkim, dmarc, spf } = await authenticate(Buffer.from(message, "base64"),
    { ip, helo, sender, resolver, mta: "mx.example.net", trustReceived: false, disableArc: true, disableBimi: true });
  return {
    signatures: dkim.results.map((s) => ({
      domain: s.signingDomain, selector: s.selector, algorithm: s.algo, result: s.status.result, aligned: s.status.aligned,
    })),
    spf: spf.status.result,
    dmarc: dmarc.status.result,
    alignment: dmarc.alignment?.dkim?.result,
  };
});
