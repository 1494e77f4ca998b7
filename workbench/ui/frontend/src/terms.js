// What the symbols of the panel mean, in one short text each.
export const TERMS = {
  D: "damage: relative error power that a layer's codes cause, at the model's output where a calibration knows it",
  heat: "damage that each bit more would save this layer; above T (in amber) it deserves more bits, below it can give some away",
  S: "entropy of the choice: high where several widths are about equally good, so that you may choose; 0 where one is clearly best",
  T: "temperature, the price of a bit: damage given up for each bit saved; a higher T makes a smaller file",
  gap: "optimality gap: at most so much better is the best plan of this size (Lagrangian bound)",
};
