/** The fields under the picture. */

const field = (name) => document.getElementById(name);
const rates = new Map(); // of each model, Hz

export function showModels({ models, limits }) {
  field("model").replaceChildren(...models.map(({ name }) => new Option(name, name)));
  field("model").value = (models.find((model) => model.default) ?? models[0]).name;
  models.forEach(({ name, sample_rate }) => rates.set(name, sample_rate));
  field("seconds").max = limits.max_seconds;
  if (Number(field("seconds").value) > limits.max_seconds) field("seconds").value = Math.floor(limits.max_seconds);
}

export function showSamples(samples) {
  field("sample").replaceChildren(field("sample").options[0], ...samples.map(({ name, url }) => new Option(name, url)));
  field("sample").parentElement.hidden = !samples.length;
}

/** What is asked for, or null where a field cannot be used: the browser then says which, and what it takes. */
export function readSettings() {
  if (!field("settings").reportValidity()) return null;
  const temperature = field("temperature").value;
  return {
    model: field("model").value,
    sampleRate: rates.get(field("model").value),
    max_seconds: Number(field("seconds").value),
    temperature: temperature === "" ? null : Number(temperature),
    seed: Number(field("seed").value),
  };
}
