// A script of a test: `node script.mjs ARGUMENTS FOLDER`. Arguments are JSON; what it finds out is written to
// FOLDER/result.json, and everything else it prints is shown when the test fails.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";

/** Runs `work(args, folder)` and ends this process: 0 with a result, 1 with an error. */
export async function task(work) {
  const [args, folder] = process.argv.slice(2);
  try {
    const result = await work(JSON.parse(args), folder);
    await writeFile(join(folder, "result.json"), JSON.stringify(result ?? null));
    process.exit(0);
  } catch (error) {
    console.error(error);
    process.exit(1);
  }
}
