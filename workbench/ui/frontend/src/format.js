// How numbers look. Digits that do not tell anything are left out, and equal columns line up.

const WHOLE = new Intl.NumberFormat("en-US");

export const whole = (value) => WHOLE.format(value);

export const fixed = (digits) => (value) => (Number.isFinite(value) ? value.toFixed(digits) : blank(value));

export function significant(value) {
  if (!Number.isFinite(value)) return blank(value);
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 1e6 || size < 1e-3) return value.toExponential(2).replace("e-", "e−").replace("e+", "e");
  return size >= 1000 ? value.toFixed(0) : value.toPrecision(3);
}

function blank(value) {
  if (Number.isNaN(value)) return "";
  return value > 0 ? "∞" : "−∞";
}

export function size(bytes) {
  for (const [unit, scale] of [["TB", 1e12], ["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) {
    if (bytes >= scale) return `${(bytes / scale).toFixed(3)} ${unit}`;
  }
  return `${whole(bytes)} B`;
}

// A bound, rounded upwards: 0.00 % is said of nothing but 0.
export const percent = (value) => (Number.isFinite(value) ? `${(Math.ceil(1e4 * value - 1e-6) / 100).toFixed(2)} %` : blank(value));
