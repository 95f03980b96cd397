// What all the programs here have in common: one JSON value comes in, one goes out.
export async function answer(work) {
  let input = "";
  for await (const chunk of process.stdin.setEncoding("utf8")) input += chunk;
  process.stdout.write(JSON.stringify(await work(JSON.parse(input))));
}
