// Sends a mail with nodemailer, and says what the server said.
import nodemailer from "nodemailer";
import { answer } from "./answer.mjs";

await answer(async ({ server, mail }) => {
  const transport = nodemailer.createTransport(server);
  try {
    const { response, accepted, rejected, messageId } = await transport.sendMail(mail);
    return { response, accepted, rejected, messageId };
  } catch (error) {
    return { error: error.message, response: error.response };
  } finally {
    transport.close();
  }
});
