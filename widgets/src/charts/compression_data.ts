// What the pictures of compression are drawn from: the arrays of one model and one scheme.
import type { PayloadMeta } from "../base/codec";
import { critical } from "./fit";

export interface Scheme {
  label: string;
  unit: string;
  log: boolean;
  grid: boolean;
}

export interface Subject {
  name: string;
  steps: number[];
  schemes: Scheme[];
  predictors: string[];
}

export interface Meta extends PayloadMeta {
  subjects: Subject[];
  tolerances: [number, number];
}

/** The critical level (bits of a grid) of every checkpoint, with the ends of its interval. */
export interface Criticals {
  at: number[];
  ends: [number, number][];
}

export interface Chosen {
  subject: Subject;
  scheme: Scheme;
  levels: number[];
  /** The rise of the loss at every level, at one checkpoint. */
  gap(step: number): number[];
  /** One number a checkpoint. */
  predictor(k: number): number[];
  llcError: number[];
  criticals(tolerance: number): Criticals;
}

export const criticalName = (scheme: Scheme): string => (scheme.grid ? "critical bits per weight" : `critical ${scheme.unit}`);

export function chosenData(meta: Meta, data: Record<string, ArrayLike<number>>, number: number, schemeNumber: number): Chosen {
  const subject = meta.subjects[number];
  const { steps, schemes } = subject;
  const scheme = schemes[schemeNumber];
  const of = (name: string, start: number, width: number) => Array.from({ length: width }, (_, k) => data[`${number}/${name}`][start + k]);
  const row = (name: string, step: number): number[] => {
    const width = data[`${number}/${name}`].length / (steps.length * schemes.length);
    return of(name, (step * schemes.length + schemeNumber) * width, width);
  };
  const wide = data[`${number}/knob`].length / schemes.length;
  const levels = of("knob", schemeNumber * wide, wide).filter(Number.isFinite);
  return {
    subject,
    scheme,
    levels,
    gap: (step) => row("gap", step),
    predictor: (k) => of("predictors", k * steps.length, steps.length),
    llcError: Array.from(data[`${number}/llc_mcse`]),
    criticals: (tolerance) => {
      const cross = (gap: number[]) => critical(levels, gap, tolerance, scheme.log, scheme.grid);
      const found: Criticals = { at: [], ends: [] };
      steps.forEach((_, i) => {
        const gap = row("gap", i);
        const error = row("gap_stderr", i);
        const bound = (z: number) => cross(gap.map((v, k) => v + z * error[k]));
        found.at.push(cross(gap));
        found.ends.push([-1.96, 1.96].map(bound).sort((a, b) => a - b) as [number, number]);
      });
      return found;
    },
  };
}
