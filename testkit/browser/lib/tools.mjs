// What `make tools` has installed. NODE_PATH says where, which `import` does not look at.
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);

export const { chromium } = require("playwright-core");
export const esbuild = require("esbuild");
