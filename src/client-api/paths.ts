/** The forms under which a path of the client-server API is known: `r0` before version 1.1 of the specification, `v3` since. */
import { type Endpoint } from '../http/endpoint.ts';

export type PathForm = 'r0' | 'v1' | 'v3';

/** Of everything that r0 had and v3 has. */
export const R0_AND_V3: readonly PathForm[] = ['r0', 'v3'];

/** The endpoint under each of the forms. */
export function inForms<Request, Context>(
  forms: readonly PathForm[],
  { method, path, answer }: Endpoint<Request, Context>,
): Endpoint<Request, Context>[] {
  return forms.map((form) => ({ method, path: `/_matrix/client/${form}${path}`, answer }));
}
