// Builds the playground into dist/: three files that need nothing from anywhere else, each also gzipped for the server to
// hand out as it is.
import { build } from "esbuild";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";

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
