/** An array parameter of numbers, as PostgreSQL's text form; the driver's own conversion quotes and checks each item. */
export function int8Array(numbers: readonly number[]): string {
  return `{${numbers.join(',')}}`;
}
