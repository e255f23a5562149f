/** Takes one line for the person who waits: what is being started, downloaded or built, and how long that takes. */
export type Progress = (line: string) => void;

/** The process's environment variables, passed down from the entry point. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Something needed for a local start cannot be had. The message names what was tried and what a person can do. */
export class LaunchError extends Error {
  override readonly name = 'LaunchError';
}

/** The message of anything thrown. */
export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
