/**
 * The directory of a server whose application services make rooms when somebody looks for their aliases.
 *
 * Source: https://spec.matrix.org/v1.16/application-service-api/#querying
 */
import { type RoomAlias } from '../matrix/identifiers.ts';
import { type AliasAnswer, type Directory } from '../rooms/directory-contract.ts';
import { RoomError } from '../rooms/error.ts';
import { type AppServices } from './contract.ts';

/** An alias of ours that means nothing is asked for, and looked up once more. */
export function providingAliases(
  directory: Directory,
  services: Pick<AppServices, 'mayProvideAlias' | 'provideAlias'>,
): Directory {
  const providing = async (alias: RoomAlias, look: () => Promise<AliasAnswer>): Promise<AliasAnswer> => {
    try {
      return await look();
    } catch (error) {
      const isUnknown = error instanceof RoomError && error.kind === 'unknown-alias';
      if (!isUnknown || !services.mayProvideAlias(alias) || !(await services.provideAlias(alias))) throw error;
      return look();
    }
  };
  return {
    ...directory,
    alias: (alias, signal) => providing(alias, () => directory.alias(alias, signal)),
    ownAlias: (alias) => providing(alias, () => directory.ownAlias(alias)),
  };
}
