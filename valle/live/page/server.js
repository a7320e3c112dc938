/** What the server tells over HTTP: its models and samples, and why there is no socket. */

import { PersonError } from "./errors.js";

let token = null; // in this page's memory only

export const useToken = (text) => (token = text || null);
export const currentToken = () => token;

/** `{models: [{name, sample_rate, default}], limits: {prompt_seconds, max_seconds}}`. */
export async function models() {
  const found = await (await ask("v1/models")).json();
  if (!found.models.length) throw new PersonError("lonely");
  return found;
}

/** `[{name, url, seconds, sample_rate, licence, source}]`. */
export const samples = async () => (await (await ask("v1/samples")).json()).samples;

/** A sample's file. */
export const sampleFile = async (url) => (await ask(url)).blob();

/** Why a socket was closed before its stream was done, as an error for a person. */
export async function whyNoSocket() {
  try {
    const answer = await fetch("health", { cache: "no-store" });
    if (answer.status === 503) return new PersonError("stopping");
    return new PersonError(answer.ok ? "crowded" : "foreign");
  } catch {
    return new PersonError("gone");
  }
}

async function ask(address) {
  let answer;
  try {
    answer = await fetch(address, { cache: "no-store", headers: token ? { Authorization: `Bearer ${token}` } : {} });
  } catch {
    throw new PersonError("gone");
  }
  if (answer.status === 401) throw new PersonError("unauthorized", "unauthorized");
  if (answer.status === 403) throw new PersonError("foreign");
  if (answer.status === 503) throw new PersonError("crowded");
  if (!answer.ok) throw new PersonError(`The server answered ${answer.status} to ${address}. Look at its log, then reload this page.`);
  return answer;
}
