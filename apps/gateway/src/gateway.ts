import type { ServiceOptions } from '@sluice/service-kit';
import { edgeRoutes } from './edge.routes.js';
import { gatewayConfig, type GatewayConfig } from './gateway.config.js';
import { GatewayModule } from './gateway.module.js';
import { GenerationsRoute } from './generations/generations.route.js';
import { KeyUsageRoute } from './generations/key-usage.route.js';
import { CountTokensRoute } from './inference/count-tokens.route.js';
import { InferenceRoute } from './inference/inference.route.js';
import { KeyRoute } from './inference/key.route.js';
import { ModelsRoute } from './inference/models.route.js';
import { ManagementRoute } from './management/management.route.js';

/** The whole gateway: what `main.ts` runs. */
export const gateway: ServiceOptions<GatewayConfig> = {
  name: 'gateway',
  edge: true,
  trustedProxies: ({ TRUSTED_PROXIES }) => TRUSTED_PROXIES,
  config: gatewayConfig,
  module: (config) => GatewayModule.with(config),
  connect: async (app, { BODY_LIMIT }) => {
    const routes = edgeRoutes({
      inference: app.get(InferenceRoute),
      countTokens: app.get(CountTokensRoute),
      models: app.get(ModelsRoute),
      key: app.get(KeyRoute),
      generations: app.get(GenerationsRoute),
      keyUsage: app.get(KeyUsageRoute),
      management: app.get(ManagementRoute),
      bodyLimit: BODY_LIMIT,
    });
    await app.register(routes as never);
  },
};
