/** Copies of the project in which something is broken on purpose. */
import { cp, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const PROJECT = fileURLToPath(new URL('../..', import.meta.url));

const FILES = ['package.json', 'tsconfig.json', 'vitest.config.ts'];

/** Copies some folders of the project, with what runs them; packages are shared. */
export async function copyProject(folder: string, folders: readonly string[]): Promise<void> {
  for (const part of [...folders, ...FILES]) await cp(join(PROJECT, part), join(folder, part), { recursive: true });
  await symlink(join(PROJECT, 'node_modules'), join(folder, 'node_modules'));
}
