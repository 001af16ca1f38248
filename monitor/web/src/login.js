// The password, before anything else is shown.
import { html, useState } from "./preact.js";
import { post } from "./api.js";
import { start, store } from "./store.js";

export function Login() {
  const [problem, setProblem] = useState(null),
    [isBusy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      await post("api/login", { password: new FormData(event.target).get("password") });
      await start();
    } catch (error) {
      setProblem(error.message);
    }
    setBusy(false);
  };
  return html`<main class="login"><form onSubmit=${submit}>
    <h1>Stethos${store.session.node && html`<span> · ${store.session.node}</span>`}</h1>
    <label for="password">Password</label>
    <input id="password" name="password" type="password"
      autocomplete="current-password" required autofocus aria-describedby="login-problem" />
    <button class="primary" disabled=${isBusy}>Sign in</button>
    <p id="login-problem" role="alert">${problem}</p>
  </form></main>`;
}
