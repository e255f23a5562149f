/**
 * The API's description, made of the endpoints themselves and of the forms by which their requests are read: so it says what is so.
 *
 * Source: https://spec.openapis.org/oas/v3.1.1.html, whose schemas are JSON Schema 2020-12, as zod writes it.
 */
import { z } from 'zod';
import { type JsonObject } from '../matrix/pdu.ts';
import { type OperatorEndpoint } from './endpoints.ts';

/** Variable segments of paths. */
const PARAMETERS: Readonly<Record<string, string>> = {
  room: 'Room id or alias, percent-encoded.',
  event: 'Event id, percent-encoded.',
  purge: 'The name of a purge, as it was answered.',
  service: 'The id of an application service, percent-encoded.',
  user: 'User id, percent-encoded, or local part.',
};

const error = z.object({
  errcode: z.string().describe('Of the Matrix specification where it has one, else REJOINDER_….'),
  error: z.string().describe('What is wrong, and where.'),
  retry_after_ms: z.number().optional().describe('Where trying again may help: when.'),
});

/** The endpoints, with one that describes them all and itself. */
export function withDescription(endpoints: readonly OperatorEndpoint[]): readonly OperatorEndpoint[] {
  const all: OperatorEndpoint[] = [
    ...endpoints,
    {
      method: 'GET',
      path: '/_rejoinder/v1/openapi.json',
      summary: 'This description, OpenAPI 3.1.',
      answers: z.looseObject({ openapi: z.string() }),
      answer: (_request, { version }) => describeEndpoints(all, version),
    },
  ];
  return all;
}

function describeEndpoints(endpoints: readonly OperatorEndpoint[], version: string): JsonObject {
  const paths: Record<string, JsonObject> = {};
  for (const endpoint of endpoints) {
    const path = endpoint.path.replaceAll(/:(\w+)/g, '{$1}');
    paths[path] = { ...paths[path], [endpoint.method.toLowerCase()]: operationOf(endpoint) };
  }
  return {
    openapi: '3.1.1',
    info: { title: 'Rejoinder operator API', version },
    security: [{ token: [] }],
    paths,
    components: {
      securitySchemes: { token: { type: 'http', scheme: 'bearer' } },
      responses: { Error: { description: 'It is refused.', content: jsonOf(error) } },
    },
  };
}

function operationOf({ path, summary, query, body, answers }: OperatorEndpoint): JsonObject {
  const named = [...path.matchAll(/:(\w+)/g)].map(([, name = '']) => name);
  const parameters = [
    ...named.map((name) => ({
      ...{ name, in: 'path', required: true, schema: { type: 'string' } },
      description: PARAMETERS[name] ?? name,
    })),
    ...queryParameters(query),
  ];
  return {
    summary,
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(body === undefined ? {} : { requestBody: { content: jsonOf(body, 'input') } }),
    responses: {
      '200': {
        description: 'It is done, or this is what was asked for.',
        content: jsonOf(answers),
      },
      default: { $ref: '#/components/responses/Error' },
    },
  };
}

function queryParameters(query: z.ZodType | undefined): JsonObject[] {
  if (query === undefined) return [];
  const { properties = {} } = schemaOf(query, 'input') as { readonly properties?: Record<string, JsonObject> };
  return Object.entries(properties).map(([name, schema]) => ({ name, in: 'query', schema }));
}

function jsonOf(form: z.ZodType, io: 'input' | 'output' = 'output'): JsonObject {
  return { 'application/json': { schema: schemaOf(form, io) } };
}

function schemaOf(form: z.ZodType, io: 'input' | 'output'): JsonObject {
  // Of a value that is read further, what comes in is described.
  const schema = z.toJSONSchema(form, { io, unrepresentable: 'any' }) as JsonObject;
  return Object.fromEntries(Object.entries(schema).filter(([key]) => key !== '$schema'));
}
