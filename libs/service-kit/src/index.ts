export { AllowServices, ManagementActor, requireOperator, requireOrganization } from './callers.guard.js';
export { baseConfig, ConfigError, defineConfig, json, type BaseConfig } from './config.js';
export { HealthRegistry } from './health.controller.js';
export { loggerFor } from './logger.js';
export { managementProblem, openaiProblem, problemHeaders, toRejected } from './problem.js';
export { ok, parse } from './respond.js';
export { createApp, runService, type ServiceOptions } from './run.js';
export { ServiceClient, type ServiceCall } from './service-client.js';
export { ServiceTokens, type Caller } from './service-tokens.js';
