// preact, its hooks and htm as one module, put together by scripts/make-page.
import htm from "htm";
import { h } from "preact";

export { Component, render } from "preact";
export { useEffect, useReducer, useRef, useState } from "preact/hooks";
export const html = htm.bind(h);
