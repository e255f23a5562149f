/**
 * Names that application services have reserved: nobody else gets them, and a service gets no others.
 *
 * Source: https://spec.matrix.org/v1.16/application-service-api/#registration
 */
import { type AppServices, type KnownService } from '../app-services/contract.ts';
import { MatrixError } from '../http/matrix-error.ts';
import { type RoomAlias, type ServerName, type UserId, parseUserId } from '../matrix/identifiers.ts';
import { type UserRequest } from './client-request.ts';

type Services = { readonly appServices: AppServices };

/** Throws a `MatrixError` where the alias is for others to give. */
export function requireFreeAlias({ requester }: UserRequest, { appServices }: Services, alias: RoomAlias): void {
  const { service } = requester;
  if (service !== undefined && !service.isOwnAlias(alias)) {
    throw new MatrixError(400, 'M_EXCLUSIVE', 'that alias is not in a namespace of this application service');
  }
  if (appServices.isAliasTaken(alias, service)) {
    throw new MatrixError(400, 'M_EXCLUSIVE', 'an application service has reserved that alias');
  }
}

/** The same of the name of a new user, local part or whole; a name that cannot be one is let pass, and is refused for that. */
export function requireFreeName(
  name: string,
  { appServices, serverName }: Services & { readonly serverName: ServerName },
  service?: KnownService,
): void {
  const userId: UserId | undefined = parseUserId(name.startsWith('@') ? name : `@${name}:${serverName}`);
  if (userId === undefined) return;
  if (service !== undefined && !service.isOwnUser(userId)) {
    throw new MatrixError(400, 'M_EXCLUSIVE', 'that user is not in a namespace of this application service');
  }
  if (appServices.isUserTaken(userId, service)) {
    throw new MatrixError(400, 'M_EXCLUSIVE', 'an application service has reserved that name');
  }
}

/** Throws where another service than this one, which would act as the user, has reserved him: a wide namespace reaches over others. */
export function requireUntaken(userId: UserId, { appServices }: Services, service: KnownService): void {
  if (!appServices.isUserTaken(userId, service)) return;
  throw new MatrixError(403, 'M_EXCLUSIVE', 'another application service has reserved that user');
}
