// solc's command line for what the library asks: --version; --standard-json on standard input, once; and --lines, by
// which it stays and answers one request after another, a line of JSON each: starting it takes longer than compiling.
// Imports not given inline are read below --base-path.
const fs = require("fs");
const path = require("path");
const solc = require("solc");

const args = process.argv.slice(2);
if (args.includes("--version")) {
  console.log(`solc, the solidity compiler commandline interface\nVersion: ${solc.version()}`);
  process.exit(0);
}
const base = args.includes("--base-path") ? args[args.indexOf("--base-path") + 1] : ".";
const read = (name) => {
  try {
    return { contents: fs.readFileSync(path.join(base, name), "utf8") };
  } catch (error) {
    return { error: `File not found below ${base}: ${error.message}` };
  }
};
if (args.includes("--lines")) {
  const lines = require("readline").createInterface({ input: process.stdin });
  lines.on("line", (request) => process.stdout.write(solc.compile(request, { import: read }) + "\n"));
} else {
  process.stdout.write(solc.compile(fs.readFileSync(0, "utf8"), { import: read }));
}
