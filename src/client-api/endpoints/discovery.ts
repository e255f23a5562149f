/**
 * What a client asks before it knows anybody: where the server is, and which versions of the specification it speaks.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#server-discovery and #api-versions
 */
import { MatrixError } from '../../http/matrix-error.ts';
import { type OpenEndpoint } from '../context.ts';

/** Versions whose paths and forms are taken. Clients refuse servers that name none since 1.1; 1.11 is about media, which are not here. */
const VERSIONS = [
  'r0.5.0',
  'r0.6.0',
  'r0.6.1',
  'v1.1',
  'v1.2',
  'v1.3',
  'v1.4',
  'v1.5',
  'v1.6',
  'v1.7',
  'v1.8',
  'v1.9',
  'v1.10',
];

export const DISCOVERY_ENDPOINTS: readonly OpenEndpoint[] = [
  {
    method: 'GET',
    path: '/_matrix/client/versions',
    answer: () => ({ versions: VERSIONS, unstable_features: {} }),
  },
  {
    method: 'GET',
    path: '/.well-known/matrix/client',
    answer: (_request, { publicBaseUrl }) => {
      if (publicBaseUrl === null) {
        throw new MatrixError(404, 'M_NOT_FOUND', 'this server does not say where clients reach it');
      }
      return { 'm.homeserver': { base_url: publicBaseUrl } };
    },
  },
];
