// Chromium and the server under test. A browser whose system has not its libraries gets those that come with it.

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

/** A package in the folder. */
export async function load(folder, name) {
  const path = createRequire(join(folder, "package.json")).resolve(name);
  return import(pathToFileURL(path));
}

/** Starts Chromium. Every rule that protects a page is in force: the package's own arguments, which lift some, are not used. */
export async function browser(folder) {
  const { default: chromium, inflate, setupLambdaEnvironment } = await load(folder, "@sparticuz/chromium");
  const { default: puppeteer } = await load(folder, "puppeteer-core");
  const executablePath = await chromium.executablePath();
  if (spawnSync(executablePath, ["--version"]).status !== 0) {
    await inflate(join(folder, "node_modules/@sparticuz/chromium/bin/al2023.tar.br"));
    setupLambdaEnvironment(join(tmpdir(), "al2023", "lib"));
  }
  const args = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"];
  return puppeteer.launch({ executablePath, headless: "shell", args, protocolTimeout: 120_000 });
}

/** Starts `coder serve`; gives its address and how to end it. */
export async function serve(coder, args, key) {
  const env = { ...process.env, CODER_API_KEY: key ?? "" };
  const child = spawn(coder, ["serve", "--log", "none", ...args], { env, stdio: ["ignore", "ignore", "pipe"] });
  const ended = once(child, "exit");
  for await (const line of createInterface({ input: child.stderr })) {
    const address = /^listening on (http:\/\/\S+)/.exec(line)?.[1];
    if (!address) continue;
    const stop = async () => {
      child.kill("SIGTERM");
      const [code] = await ended;
      return code;
    };
    return { url: `${address}/`, port: new URL(address).port, stop };
  }
  throw new Error(`${coder} did not listen`);
}
