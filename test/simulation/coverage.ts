/** What a run, or a series of runs, has met: counts by name. */
export class Coverage {
  readonly counts = new Map<string, number>();

  count(what: string, times = 1): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + times);
  }

  /** Adds what another has met. */
  add(other: Coverage): void {
    for (const [what, times] of other.counts) this.count(what, times);
  }

  /** Those of the names that were never met. */
  lacking(names: readonly string[]): string[] {
    return names.filter((name) => !this.counts.has(name));
  }

  lines(): string[] {
    return [...this.counts].sort(([a], [b]) => (a < b ? -1 : 1)).map(([what, times]) => `${what}: ${times}`);
  }
}
