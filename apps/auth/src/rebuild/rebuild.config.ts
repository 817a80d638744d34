import { defineConfig } from '@sluice/service-kit';
import { z } from 'zod';

const read = defineConfig({ DATABASE_URL: z.url() });

/** @throws ConfigError */
export const rebuildConfig = () => read(process.env);
