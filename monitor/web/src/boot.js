// Starts the page, or names what is missing. The server puts the way to the page's root into <base>.
document.querySelector("base").href = document.baseURI; // absolute, so that it stays when the address changes
import("./app.js").catch((error) => {
  console.error(error);
  document.getElementById("page").textContent = "The page did not arrive completely. Reload it.";
});
