// Builds the playground into dist/: three files that need nothing from anywhere else, each also gzipped for the server to
// hand out as it is.
import { build } from "esbuild";
import { buildSchema, parse, validate } from "graphql";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";

// The examples are the first thing that people try, so they must fit the schema. (The image is built without it.)
const sdl = await readFile(new URL("../schema.graphql", import.meta.url), "utf8").catch(() => null);
if (sdl) {
  const schema = buildSchema(sdl);
  const examples = new URL("examples/", import.meta.url);
  for (const name of await readdir(examples)) {
    const errors = validate(schema, parse(await readFile(new URL(name, examples), "utf8")));
    if (errors.length > 0) {
      console.error(`playground/examples/${name} does not fit schema.graphql:\n${errors.join("\n")}`);
      process.exit(1);
    }
  }
}

const dist = new URL("dist/", import.meta.url);
await rm(dist, { recursive: true, force: true });
await mkdir(dist);

const { outputFiles } = await build({
  absWorkingDir: new URL(".", import.meta.url).pathname,
  entryPoints: { app: "src/index.jsx" },
  outdir: "dist",
  bundle: true,
  write: false,
  minify: true,
  legalComments: "none",
  format: "esm",
  target: "es2022",
  jsx: "automatic",
  define: { "process.env.NODE_ENV": '"production"' },
  loader: { ".graphql": "text", ".woff": "dataurl", ".woff2": "dataurl", ".png": "dataurl" },
});
const files = new Map(outputFiles.map(({ path, contents }) => [path.split("/").pop(), contents]));
files.set("index.html", await readFile(new URL("src/index.html", import.meta.url)));

for (const [name, contents] of files) {
  const gzipped = gzipSync(contents, { level: 9 });
  await writeFile(new URL(name, dist), contents);
  await writeFile(new URL(`${name}.gz`, dist), gzipped);
  console.log(`playground/dist/${name}: ${kilobytes(contents)} kB, gzipped ${kilobytes(gzipped)} kB`);
}

function kilobytes(bytes) {
  return Math.ceil(bytes.length / 1000);
}
