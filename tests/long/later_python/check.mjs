// Judge what Python 3.14 adds with the static check, as that Python parses it: node check.mjs SAFETY_FOLDER
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { loadPyodide } from "pyodide";

const folder = process.argv[2];
const python = await loadPyodide();
python.FS.mkdirTree("/checked/safety");
for (const name of readdirSync(folder).filter((name) => /\.(py|toml)$/.test(name))) {
  python.FS.writeFile(`/checked/safety/${name}`, readFileSync(join(folder, name)));
}
console.log(
  python.runPython(`
import json, sys
sys.path.insert(0, "/checked")
from safety import check
codes = ["name = 1\\nprint(t'{name}')", "try: pass\\nexcept ValueError, TypeError: pass", "print(f'{1}')"]
json.dumps([sys.version_info[:2], [[tuple(each) for each in check(code).findings] for code in codes]])
`),
);
