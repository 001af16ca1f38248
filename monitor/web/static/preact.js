// preact, its hooks and htm as one module.
import { h } from "./vendor/preact.js";
import htm from "./vendor/htm.js";

export { render } from "./vendor/preact.js";
export { useEffect, useReducer, useRef, useState } from "./vendor/hooks.js";
export const html = htm.bind(h);
