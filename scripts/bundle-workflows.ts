/**
 * Makes dist/workflow-bundle.js, the code that a worker's workflow sandbox runs, from the compiled workflows. Runs after
 * tsc, as dist/scripts/bundle-workflows.js. A bundle made at build time spares each worker's start more than a second,
 * and is the same however the worker was started.
 */
import { existsSync } from 'node:fs';
import { rename, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { DefaultLogger, bundleWorkflowCode } from '@temporalio/worker';

const workflowsPath = fileURLToPath(new URL('../workflows/index.js', import.meta.url));
const payloadConverterPath = fileURLToPath(new URL('../workflows/payload-converter.js', import.meta.url));
const bundlePath = fileURLToPath(new URL('../workflow-bundle.js', import.meta.url));

if (!existsSync(workflowsPath)) {
  throw new Error(
    `${workflowsPath} is missing: compile first (tsc -p tsconfig.build.json), then run this from dist/scripts`,
  );
}

const { code } = await bundleWorkflowCode({
  workflowsPath,
  payloadConverterPath,
  // Histories depend on the tracing interceptors: they are in every bundle, whether spans are exported or not.
  workflowInterceptorModules: [
    createRequire(import.meta.url).resolve('@temporalio/interceptors-opentelemetry-v2/lib/workflow-interceptors'),
  ],
  logger: new DefaultLogger('WARN'),
});
// A worker that starts meanwhile reads the old bundle or the new one.
await writeFile(`${bundlePath}.new`, code);
await rename(`${bundlePath}.new`, bundlePath);
console.log(`dist/workflow-bundle.js: ${Math.round(code.length / 1024)} KiB`);
