// What does a view say about one of the numbers that it can show?  As `SCALES` and the metrics of
// slt_notebook/views describe them.

export interface Metric {
  label: string;
  unit: string;
  negative: string;
  positive: string;
  scale: "diverging" | "sequential";
  limit: number | null;
  error: boolean;
  note: string;
}
