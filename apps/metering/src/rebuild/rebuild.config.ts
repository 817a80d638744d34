import { defineConfig } from '@sluice/service-kit';
import { z } from 'zod';
import { minuteRetentionDays } from '../metering.config.js';

const read = defineConfig({ DATABASE_URL: z.url(), MINUTE_RETENTION_DAYS: minuteRetentionDays });

/** @throws ConfigError */
export const rebuildConfig = () => read(process.env);
