/** Copies of the project that run without a loader: every source file made into JavaScript alone, in the place it has here. */
import { cp, mkdir, readFile, readdir, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import ts from 'typescript';
import { PROJECT } from './copy-project.ts';

/** What a simulated room needs. */
const FOLDERS = ['src', 'activities', 'test'] as const;
const DATA = ['package.json', 'migrations'] as const;

const OPTIONS: ts.CompilerOptions = {
  target: ts.ScriptTarget.ES2023,
  module: ts.ModuleKind.ESNext,
  verbatimModuleSyntax: true,
  rewriteRelativeImportExtensions: true,
};

/** A source file as JavaScript; types are not looked at. */
export function builtSource(source: string): string {
  return ts.transpileModule(source, { compilerOptions: OPTIONS }).outputText;
}

/** Where a source file of the project is in a built copy of it. */
export function builtPath(folder: string, file: string): string {
  return join(folder, file.replace(/\.ts$/, '.js'));
}

/** Builds what simulated rooms run on into `folder`; packages are shared. */
export async function buildCopy(folder: string): Promise<void> {
  for (const part of DATA) await cp(join(PROJECT, part), join(folder, part), { recursive: true });
  await symlink(join(PROJECT, 'node_modules'), join(folder, 'node_modules'));
  for (const part of FOLDERS) {
    for (const name of await readdir(join(PROJECT, part), { recursive: true })) {
      const file = join(part, name);
      await mkdir(dirname(join(folder, file)), { recursive: true });
      if (name.endsWith('.ts')) {
        await writeFile(builtPath(folder, file), builtSource(await readFile(join(PROJECT, file), 'utf8')));
      } else if (/\.(json|py)$/.test(name)) {
        await cp(join(PROJECT, file), join(folder, file));
      }
    }
  }
}
