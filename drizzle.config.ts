/** drizzle-kit writes the SQL of `migrations/` from the schema; nothing edits a migration once it has landed. */
import { defineConfig } from 'drizzle-kit';

// drizzle-kit reads its config by the default export.
export default defineConfig({
  dialect: 'postgresql',
  casing: 'snake_case',
  schema: './src/store/schema/*.ts',
  out: './migrations',
});
