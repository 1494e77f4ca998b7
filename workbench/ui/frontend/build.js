// Makes what is generated: the bundles in ../static, one of each widget, and the types of the messages.
// `node build.js` writes it; `node build.js --check` says which of it is stale.

import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { basename, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { compile } from "json-schema-to-typescript";

const HERE = fileURLToPath(new URL(".", import.meta.url));
const SOURCES = join(HERE, "src");
const BUNDLES = join(HERE, "..", "static");
const WIDGETS = ["panel", "plotly_library", "progress", "table"];

// What stands in the first line of a bundle, so that Python can tell a stale one where there is no Node.
async function digest() {
  const hash = createHash("sha256");
  for (const name of (await readdir(SOURCES)).filter((one) => /\.(js|css)$/.test(one)).sort()) {
    hash.update(`${name}\0`).update(await readFile(join(SOURCES, name))).update("\0");
  }
  return hash.digest("hex");
}

async function bundles() {
  const line = `/* Bundled by esbuild from workbench/ui/frontend/src; sha256 ${await digest()} */`;
  const { outputFiles } = await build({
    absWorkingDir: HERE,
    entryPoints: WIDGETS.map((name) => join("src", `${name}.js`)),
    outdir: BUNDLES,
    bundle: true,
    write: false,
    format: "esm",
    target: "es2022",
    charset: "utf8",
    legalComments: "none",
    logLevel: "warning",
    banner: { js: line, css: line },
  });
  return outputFiles.map(({ path, text }) => [path, text]);
}

async function declarations() {
  // Tuples are written as in older drafts of JSON Schema, which the compiler reads.
  const tuples = (key, value) => (value?.prefixItems ? { ...value, items: value.prefixItems } : value);
  const schema = JSON.parse(await readFile(join(HERE, "messages.schema.json"), "utf8"), tuples);
  const bannerComment = "// Made by build.js from messages.schema.json, which states workbench.ui.messages.";
  const text = await compile(schema, "Messages", { bannerComment, additionalProperties: false, unreachableDefinitions: true });
  return [join(SOURCES, "messages.d.ts"), text];
}

const made = [...(await bundles()), await declarations()];
if (process.argv.includes("--check")) {
  const stale = [];
  for (const [path, text] of made) {
    if ((await readFile(path, "utf8").catch(() => "")) !== text) stale.push(relative(HERE, path));
  }
  const names = new Set(made.map(([path]) => basename(path)));
  for (const name of await readdir(BUNDLES)) if (!names.has(name)) stale.push(relative(HERE, join(BUNDLES, name)));
  if (stale.length) {
    console.error(`Stale: ${stale.join(", ")}. Run: npm run build`);
    process.exitCode = 1;
  }
} else {
  await mkdir(BUNDLES, { recursive: true });
  for (const [path, text] of made) await writeFile(path, text);
}
