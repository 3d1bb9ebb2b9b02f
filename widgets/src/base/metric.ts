// What a view knows about one of its numbers, as `SCALES` and the metrics of
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
