// Builds what the package ships from TypeScript.
//   src/<room>/widgets/<widget>.ts -> ../slt_notebook/static/<widget>.js   one minified ES module each
//   src/host.ts                    -> ../slt_notebook/static/host.js       runs them in a page
//   src/labext.ts                  -> ../slt_notebook/labextension/        federated, for JupyterLab
//   test/*.test.ts                 -> node --test                          (node build.mjs --test)
// The hash of the sources goes to static/.hash: the build hook and `slt-notebook doctor` compare it.
import { createHash } from "node:crypto";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";

const here = path.dirname(fileURLToPath(import.meta.url));
const source = path.join(here, "src");
const out = path.join(here, "..", "slt_notebook", "static");
const labOut = path.join(here, "..", "slt_notebook", "labextension");
const LIMIT = 40 * 1024;

// A stylesheet is imported as its text: minified, because it travels in every saved notebook.
const styles = {
  name: "styles",
  setup(build) {
    build.onLoad({ filter: /\.css$/ }, async ({ path: file }) => {
      const text = fs.readFileSync(file, "utf8");
      const { code } = await esbuild.transform(text, { loader: "css", minify: true });
      return { contents: code.trim(), loader: "text" };
    });
  },
};

const common = {
  plugins: [styles],
  bundle: true,
  minify: true,
  charset: "utf8",
  target: "es2022",
  legalComments: "none",
  logLevel: "warning",
};

function filesUnder(folder) {
  return fs
    .readdirSync(folder, { withFileTypes: true })
    .flatMap((entry) =>
      entry.isDirectory()
        ? filesUnder(path.join(folder, entry.name))
        : [path.join(folder, entry.name)],
    );
}

/** The same digest as slt_notebook/share/bundles.py:source_hash. */
function sourceHash() {
  const names = ["build.mjs", "package.json", "package-lock.json", "tsconfig.json"];
  const files = [...names.map((name) => path.join(here, name)), ...filesUnder(source)]
    .map((file) => path.relative(here, file).split(path.sep).join("/"))
    .filter((name) => !path.basename(name).startsWith("."))
    .sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
  const digest = createHash("sha256");
  for (const name of files) {
    digest.update(name + "\0");
    digest.update(fs.readFileSync(path.join(here, name)));
    digest.update("\0");
  }
  return digest.digest("hex");
}

/** Every .ts directly in a folder `widgets` of a room is a widget; beside them the host of a page. */
function widgetEntries() {
  const rooms = fs.readdirSync(source, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  const found = rooms.flatMap(({ name }) => {
    const folder = path.join(source, name, "widgets");
    if (!fs.existsSync(folder)) return [];
    const files = fs.readdirSync(folder).filter((file) => file.endsWith(".ts"));
    return files.map((file) => path.join(folder, file));
  });
  const entries = [path.join(source, "host.ts"), ...found];
  const names = entries.map((file) => path.basename(file));
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice) throw new Error(`two widgets are called ${twice}`);
  return entries;
}

function writeLabPackage(code) {
  // The name carries the content's hash, so that a browser never runs an old copy from its cache.
  const tag = createHash("sha256").update(code).digest("hex").slice(0, 16);
  const entry = `remoteEntry.${tag}.js`;
  fs.rmSync(path.join(labOut, "static"), { recursive: true, force: true });
  fs.mkdirSync(path.join(labOut, "static"), { recursive: true });
  fs.writeFileSync(path.join(labOut, "static", entry), code);
  const { version, description, license } = JSON.parse(
    fs.readFileSync(path.join(here, "package.json"), "utf8"),
  );
  const manifest = {
    name: "slt-notebook",
    version,
    description,
    license,
    jupyterlab: {
      extension: true,
      _build: { load: `static/${entry}`, extension: "./extension" },
    },
  };
  fs.writeFileSync(path.join(labOut, "package.json"), JSON.stringify(manifest, null, 2) + "\n");
  fs.writeFileSync(
    path.join(labOut, "install.json"),
    JSON.stringify({
      packageManager: "python",
      packageName: "slt-notebook",
      uninstallInstructions: "pip uninstall slt-notebook",
    }) + "\n",
  );
}

async function build() {
  const hash = sourceHash();
  fs.mkdirSync(out, { recursive: true });
  fs.rmSync(path.join(out, ".hash"), { force: true });
  const entries = widgetEntries();
  if (entries.length) {
    const result = await esbuild.build({
      ...common,
      entryPoints: entries,
      outdir: out,
      entryNames: "[name]",
      format: "esm",
      metafile: true,
    });
    const wanted = new Set();
    for (const [file, { bytes }] of Object.entries(result.metafile.outputs)) {
      wanted.add(path.basename(file));
      const note = bytes > LIMIT ? "  over the limit of 40 kB" : "";
      console.log(`${path.basename(file).padEnd(18)} ${(bytes / 1024).toFixed(1).padStart(6)} kB${note}`);
    }
    for (const name of fs.readdirSync(out)) {
      if (name.endsWith(".js") && !wanted.has(name)) fs.rmSync(path.join(out, name));
    }
  }
  if (fs.existsSync(path.join(source, "labext.ts"))) {
    const result = await esbuild.build({
      ...common,
      entryPoints: [path.join(source, "labext.ts")],
      format: "iife",
      write: false,
    });
    const code = result.outputFiles[0].text;
    writeLabPackage(code);
    console.log(`${"labextension".padEnd(18)} ${(code.length / 1024).toFixed(1).padStart(6)} kB`);
  }
  fs.writeFileSync(path.join(out, ".hash"), hash + "\n");
}

async function watch() {
  await build();
  let timer;
  fs.watch(source, { recursive: true }, () => {
    clearTimeout(timer);
    timer = setTimeout(() => build().catch((error) => console.error(error.message)), 100);
  });
  console.log("watching src/");
}

async function test() {
  const folder = path.join(here, "test");
  const tests = fs.existsSync(folder)
    ? fs.readdirSync(folder).filter((name) => name.endsWith(".test.ts"))
    : [];
  if (!tests.length) return console.log("no tests in test/");
  const built = path.join(here, "node_modules", ".cache", "slt-tests");
  fs.rmSync(built, { recursive: true, force: true });
  await esbuild.build({
    ...common,
    minify: false,
    sourcemap: "inline",
    platform: "node",
    format: "esm",
    entryPoints: tests.map((name) => path.join(folder, name)),
    outdir: built,
    outExtension: { ".js": ".mjs" },
  });
  const files = filesUnder(built).filter((name) => name.endsWith(".mjs"));
  const run = spawnSync(process.execPath, ["--enable-source-maps", "--test", ...files], {
    stdio: "inherit",
  });
  process.exitCode = run.status ?? 1;
}

const mode = process.argv[2];
if (mode === "--hash") console.log(sourceHash());
else await (mode === "--watch" ? watch() : mode === "--test" ? test() : build());
