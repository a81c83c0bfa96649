// Opens the page of a running server in headless Chromium, in both themes and two widths, and fails where it asks another
// place for anything, an error is logged, something runs out of the page, or axe finds a fault of accessibility.
//
//   node check.mjs http://127.0.0.1:8000 screenshots/
import { mkdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { chromium } from "playwright-core";

const [url, screenshots, browser = "/usr/bin/chromium"] = process.argv.slice(2);
if (!url || !screenshots) {
  console.error("usage: node check.mjs URL DIRECTORY [CHROMIUM]");
  process.exit(2);
}
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const found = [];
await mkdir(screenshots, { recursive: true });
const chrome = await chromium.launch({ executablePath: browser, args: ["--no-sandbox"] });
for (const colorScheme of ["light", "dark"]) {
  for (const width of [1200, 400]) {
    const name = `${colorScheme}-${width}`;
    // The page's own policy keeps scripts of others out; axe has to come in.
    const context = await chrome.newContext({ colorScheme, viewport: { width, height: 900 }, bypassCSP: true });
    const page = await context.newPage();
    page.on("console", (message) => message.type() === "error" && found.push(`${name}: ${message.text()}`));
    page.on("pageerror", (error) => found.push(`${name}: ${error}`));
    page.on("request", (request) => new URL(request.url()).origin === new URL(url).origin || found.push(`${name}: asks ${request.url()}`));
    await page.goto(url);
    await page.waitForSelector("figure svg[role=img]", { timeout: 15000 });
    await page.waitForTimeout(3000);
    await page.screenshot({ path: path.join(screenshots, `${name}.png`), fullPage: true });
    const beyond = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (beyond > 0) found.push(`${name}: ${beyond} pixels run out of the page`);
    // Keys alone reach the ranges and the tables.
    await page.locator("input[value='2h']").focus();
    await page.keyboard.press("Space");
    await page.waitForTimeout(500);
    await page.locator("details summary").first().focus();
    await page.keyboard.press("Enter");
    if (!(await page.locator("details[open]").count())) found.push(`${name}: a table does not open by the keyboard`);
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => window.axe.run());
    for (const violation of violations) {
      found.push(`${name}: ${violation.id}: ${violation.help} (${violation.nodes.map((node) => node.target).join(", ")})`);
    }
    await context.close();
  }
}
await chrome.close();
console.log(JSON.stringify({ page: url, findings: found }, null, 2));
process.exit(found.length ? 1 : 0);
