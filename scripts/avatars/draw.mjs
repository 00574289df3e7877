// Draw avatars of a style of DiceBear as PNGs:   node draw.mjs STYLE COUNT SIZE FOLDER [FIRST]
//
// Image i is a function of its seed string p<i>, i = FIRST (0) ... FIRST + COUNT - 1, so more images change none.
// `make avatars` calls it; by hand: npm install --prefix scripts/avatars, once.
import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as styles from "@dicebear/collection";
import { createAvatar } from "@dicebear/core";
import { Resvg } from "@resvg/resvg-js";

// opaque, for a network sees no transparency
const BACKGROUNDS = [
  "b6e3f4", "c0aede", "d1d4f9", "ffd5dc", "ffdfbf", "a3d9a5", "f4c2a1", "8fb8de", "e6e6e6", "5f7a8c",
];
const DRAWN_AT = 512;

function fail(message) {
  console.error(`draw.mjs: error: ${message}`);
  process.exit(2);
}

const [style, count, size, folder, first = "0"] = process.argv.slice(2);
if (folder === undefined) fail("usage: node draw.mjs STYLE COUNT SIZE FOLDER [FIRST]");
if (!styles[style]?.create) fail(`there is no style ${style}: choose one of ${Object.keys(styles).sort().join(", ")}`);
for (const [name, text, least] of [["COUNT", count, 1], ["SIZE", size, 16], ["FIRST", first, 0]]) {
  if (!/^\d+$/.test(text) || Number(text) < least) fail(`${name} is ${text}: choose a whole number from ${least} on`);
}

mkdirSync(folder, { recursive: true });
for (let i = Number(first); i < Number(first) + Number(count); i++) {
  const svg = createAvatar(styles[style], { seed: `p${i}`, backgroundColor: BACKGROUNDS, size: DRAWN_AT }).toString();
  const png = new Resvg(svg, { fitTo: { mode: "width", value: Number(size) } }).render().asPng();
  const file = join(folder, `${String(i).padStart(6, "0")}.png`);
  writeFileSync(`${file}.part`, png); // whole or absent
  renameSync(`${file}.part`, file);
}
